/**
 * `npm run soak:jetstream -- --seconds 60`: three processes write to a JetStream cluster of their own while servers and writers are killed,
 * and the leader is cut off from its peers or stopped for a while. Prints what there was, and fails if anything was lost, doubled or out
 * of place, or if two replicas differ.
 */
import { soakOptions } from "./seconds.ts";
import { soakJetStream } from "../test/support/soak-jetstream.ts";
import { soakSummary } from "../test/support/soak-writers.ts";

const { seconds } = soakOptions({});
const report = await soakJetStream({ seconds });
console.log(soakSummary(report));
console.log(
  `${report.replicas} replicas with the same bytes, and ${report.leaders} servers with the same ${report.messages} messages`,
);
