/**
 * `npm run servers`: starts the servers that tests and examples can use, with temporary data, until it is interrupted. Prints the
 * environment variables to set in another terminal.
 */
import { NatsCluster, natsBinary } from "../test/support/nats-server.ts";
import { installedBinaries, PrivatePostgres } from "../test/support/postgres-server.ts";

const postgres = installedBinaries() === undefined ? undefined : await PrivatePostgres.create();
console.log(postgres === undefined ? "# PostgreSQL is not installed here" : `export PG_URL=${postgres.url}`);
const nats = natsBinary() === undefined ? undefined : await NatsCluster.create();
console.log(nats === undefined ? "# nats-server is not installed here" : `export NATS_SERVER=${nats.urls.join(",")}`);
console.log("Stop with Ctrl-C; the data are deleted then.");
await new Promise<void>((resolve) => {
  const alive = setInterval(() => {}, 60_000);
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      clearInterval(alive);
      resolve();
    });
});
nats?.remove();
await postgres?.remove();
