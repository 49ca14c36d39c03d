// node bearer.mjs URL TOKEN: passes requests on to the server at URL, each with the token, for
// clients that cannot bring one. Prints its own URL.
import { createServer, request } from 'node:http';

const [url, token] = process.argv.slice(2);
const { origin, pathname } = new URL(url);
const proxy = createServer((asked, answer) => {
  const headers = { ...asked.headers, authorization: `Bearer ${token}` };
  const options = { method: asked.method, path: asked.url, headers };
  const passed = request(origin, options, (got) => {
    answer.writeHead(got.statusCode, got.headers);
    got.pipe(answer);
  });
  asked.pipe(passed);
  passed.on('error', () => answer.destroy());
  answer.on('close', () => passed.destroy());
});
proxy.listen(0, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${proxy.address().port}${pathname}`);
});
