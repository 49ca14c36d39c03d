//! SQLite's own file system with an ear in between.
//!
//! A file of ours is a [`File`], followed in memory by the file of the system, to which every call
//! is passed on.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use rusqlite::ffi::{
    SQLITE_OK, SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_WAL, sqlite3_file, sqlite3_int64,
    sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

use crate::disk::Disk;
use crate::image::Change;

/// The file system of the platform. Set once, before ours is registered; it lives for ever.
static SYSTEM: AtomicPtr<sqlite3_vfs> = AtomicPtr::new(ptr::null_mut());

/// What SQLite takes for its file. SQLite aligns to eight bytes, and so is what follows it.
#[repr(C, align(8))]
struct File {
    base: sqlite3_file,
    /// Owned; null if nobody wants to know of this file.
    heard: *mut Heard,
}

struct Heard {
    disk: Arc<Disk>,
    path: PathBuf,
}

/// Puts the disks below every database that this process opens from now on.
pub(crate) fn install() {
    // SAFETY: null asks for the default, which is initialised and never goes away. The copy is
    // complete and is leaked, so what SQLite is given lives as long as the process.
    unsafe {
        let system = sqlite3_vfs_find(ptr::null());
        assert!(!system.is_null(), "SQLite has a file system");
        SYSTEM.store(system, Ordering::Release);
        // Whatever concerns no file does not look at its first argument, so that it can be shared.
        let ours = Box::leak(Box::new(*system));
        ours.zName = c"power-loss".as_ptr();
        ours.pNext = ptr::null_mut();
        ours.szOsFile += c_int::try_from(size_of::<File>()).expect("some bytes");
        ours.xOpen = Some(open);
        ours.xDelete = Some(delete);
        assert_eq!(sqlite3_vfs_register(ours, 1), SQLITE_OK, "registered as the default");
    }
}

/// The system's file behind one of ours.
///
/// # Safety
/// `file` must be one that SQLite made room for according to our `szOsFile`.
unsafe fn system(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: the room is that of both, one after the other.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// # Safety
/// `file` must be open.
unsafe fn heard<'a>(file: *mut sqlite3_file) -> Option<&'a Heard> {
    // SAFETY: `open` has set it, and `close` is the last call.
    unsafe { (*file.cast::<File>()).heard.as_ref() }
}

/// # Safety
/// `name` must be null or a C string.
unsafe fn path(name: *const c_char) -> Option<PathBuf> {
    // SAFETY: by the caller.
    (!name.is_null()).then(|| OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()).into())
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let system_vfs = SYSTEM.load(Ordering::Acquire);
    // SAFETY: SQLite's arguments are passed on as they came, the file replaced by the system's.
    unsafe {
        let of_interest = flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL) != 0;
        let path = path(name).filter(|_| of_interest);
        let disk = path.as_deref().and_then(Disk::of);
        let before = path.as_ref().filter(|_| disk.is_some()).and_then(|it| fs::read(it).ok());
        let this = file.cast::<File>();
        (*this).base.pMethods = ptr::null();
        (*this).heard = ptr::null_mut();
        let done = (*system_vfs).xOpen.expect("every file system opens")(
            system_vfs,
            name,
            system(file),
            flags,
            out_flags,
        );
        if done != SQLITE_OK {
            return done;
        }
        if let (Some(disk), Some(path)) = (disk, path) {
            disk.opened(&path, before);
            (*this).heard = Box::into_raw(Box::new(Heard { disk, path }));
        }
        let shares = (*(*system(file)).pMethods).xShmMap.is_some();
        (*this).base.pMethods = if shares { &METHODS } else { &METHODS_ALONE };
        done
    }
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync_folder: c_int) -> c_int {
    let system_vfs = SYSTEM.load(Ordering::Acquire);
    // SAFETY: SQLite's arguments are passed on as they came.
    unsafe {
        let path = path(name);
        if let Some(disk) = path.as_deref().and_then(Disk::of) {
            disk.deleted(path.as_deref().expect("it has a disk"));
        }
        (*system_vfs).xDelete.expect("every file system deletes")(system_vfs, name, sync_folder)
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: this is the last call for the file, so the box is ours again.
    unsafe {
        let heard = (*file.cast::<File>()).heard;
        if !heard.is_null() {
            drop(Box::from_raw(heard));
        }
        pass_on::close(file)
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    at: sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite hands over `length` bytes.
    unsafe {
        let done = pass_on::write(file, bytes, length, at);
        if let (SQLITE_OK, Some(heard)) = (done, heard(file)) {
            let length = usize::try_from(length).expect("a length");
            let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), length).into();
            let at = usize::try_from(at).expect("a place");
            heard.disk.changed(&heard.path, Change::Write { at, bytes });
        }
        done
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: sqlite3_int64) -> c_int {
    // SAFETY: passed on.
    unsafe {
        let done = pass_on::truncate(file, length);
        if let (SQLITE_OK, Some(heard)) = (done, heard(file)) {
            let length = usize::try_from(length).expect("a length");
            heard.disk.changed(&heard.path, Change::Truncate(length));
        }
        done
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: passed on.
    unsafe {
        let Some(heard) = heard(file) else { return pass_on::sync(file, flags) };
        let mut done = SQLITE_OK;
        heard.disk.synced(&heard.path, || {
            done = pass_on::sync(file, flags);
            done == SQLITE_OK
        });
        done
    }
}

/// Calls of the system's own methods on the system's own file.
mod pass_on {
    use super::*;

    macro_rules! methods {
        ($($name:ident = $method:ident ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
            pub(super) unsafe extern "C" fn $name(
                file: *mut sqlite3_file, $($argument: $type),*
            ) -> $result {
                // SAFETY: SQLite calls it on an open file of ours, behind which the system's is
                // open too.
                unsafe {
                    let file = system(file);
                    (*(*file).pMethods).$method.expect("the system has it")(file, $($argument),*)
                }
            }
        )*};
    }

    methods! {
        close = xClose() -> c_int;
        read = xRead(to: *mut c_void, length: c_int, at: sqlite3_int64) -> c_int;
        write = xWrite(from: *const c_void, length: c_int, at: sqlite3_int64) -> c_int;
        truncate = xTruncate(length: sqlite3_int64) -> c_int;
        sync = xSync(flags: c_int) -> c_int;
        size = xFileSize(length: *mut sqlite3_int64) -> c_int;
        lock = xLock(level: c_int) -> c_int;
        unlock = xUnlock(level: c_int) -> c_int;
        is_reserved = xCheckReservedLock(reserved: *mut c_int) -> c_int;
        control = xFileControl(operation: c_int, argument: *mut c_void) -> c_int;
        sector = xSectorSize() -> c_int;
        characteristics = xDeviceCharacteristics() -> c_int;
        map_shared = xShmMap(
            region: c_int, size: c_int, extend: c_int, mapped: *mut *mut c_void
        ) -> c_int;
        lock_shared = xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
        shared_barrier = xShmBarrier() -> ();
        unmap_shared = xShmUnmap(delete: c_int) -> c_int;
    }
}

/// Version 2: with shared memory, without memory-mapped reading.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(pass_on::read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(pass_on::size),
    xLock: Some(pass_on::lock),
    xUnlock: Some(pass_on::unlock),
    xCheckReservedLock: Some(pass_on::is_reserved),
    xFileControl: Some(pass_on::control),
    xSectorSize: Some(pass_on::sector),
    xDeviceCharacteristics: Some(pass_on::characteristics),
    xShmMap: Some(pass_on::map_shared),
    xShmLock: Some(pass_on::lock_shared),
    xShmBarrier: Some(pass_on::shared_barrier),
    xShmUnmap: Some(pass_on::unmap_shared),
    xFetch: None,
    xUnfetch: None,
};

/// For a file that nobody else may have open, as one that is opened immutable.
static METHODS_ALONE: sqlite3_io_methods = sqlite3_io_methods {
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    ..METHODS
};
