/**
 * `npm run servers`: starts the servers that tests and examples can use, with temporary data, until it is interrupted. Prints the
 * environment variables to set in another terminal.
 */
import { PrivatePostgres } from "../test/support/postgres-server.ts";

const postgres = await PrivatePostgres.create();
console.log(`export PG_URL=${postgres.url}`);
console.log("Stop with Ctrl-C; the data are deleted then.");
await new Promise<void>((resolve) => {
  const alive = setInterval(() => {}, 60_000);
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      clearInterval(alive);
      resolve();
    });
});
await postgres.remove();
