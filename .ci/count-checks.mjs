// node count-checks.mjs FOLDER PASSED SKIPPED: exits 0 if the suite's results are exactly that,
// and nothing failed or warned.
import { readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';

const [folder, passed, skipped] = process.argv.slice(2);
const checks = readdirSync(folder).flatMap((scenario) => {
  const found = JSON.parse(readFileSync(join(folder, scenario, 'checks.json'), 'utf8'));
  return found.map((check) => ({ ...check, scenario }));
});
const count = (status) => checks.filter((check) => check.status === status).length;
const counted = { passed: count('SUCCESS'), skipped: count('SKIPPED'), info: count('INFO') };
const bad = checks.filter((check) => !['SUCCESS', 'SKIPPED', 'INFO'].includes(check.status));
console.log(`${basename(folder)}: ${counted.passed} passed, ${bad.length} failed, ${counted.skipped} skipped`);
for (const { status, scenario, id, errorMessage } of bad) {
  console.log(`  ${status} ${scenario} ${id} ${errorMessage ?? ''}`);
}
const expected = counted.passed === Number(passed) && counted.skipped === Number(skipped);
if (!expected) console.log(`  expected ${passed} passed and ${skipped} skipped`);
process.exit(expected && bad.length === 0 ? 0 : 1);
