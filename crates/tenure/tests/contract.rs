//! Every case of the contract, on every backend: one line each.

use tenure::store::contract::MemoryHarness;

tenure::contract_suite!(memory, MemoryHarness::default());
