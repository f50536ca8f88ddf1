import type { EventStore, EventStoreCapabilities } from "../../event-store/event-store.ts";
import { equal } from "./expect.ts";
import { type Reopen, type Rule, runRule } from "./rule.ts";
import { checkpoints } from "./rules/checkpoints.ts";
import { checkedVerdicts } from "./rules/checked-verdicts.ts";
import { closing } from "./rules/closing.ts";
import { commits } from "./rules/commits.ts";
import { conflicts } from "./rules/conflicts.ts";
import { compactions } from "./rules/compactions.ts";
import { cuts } from "./rules/cuts.ts";
import { deadLetters } from "./rules/dead-letters.ts";
import { durability } from "./rules/durability.ts";
import { fields } from "./rules/fields.ts";
import { freshness } from "./rules/freshness.ts";
import { instances } from "./rules/instances.ts";
import { names } from "./rules/names.ts";
import { order } from "./rules/order.ts";
import { progress } from "./rules/progress.ts";
import { reading } from "./rules/reading.ts";
import { releasing } from "./rules/releasing.ts";
import { rememberedOutcomes } from "./rules/remembered-outcomes.ts";
import { severalHandles } from "./rules/several-handles.ts";
import { snapshots } from "./rules/snapshots.ts";
import { subjectKeys } from "./rules/subject-keys.ts";
import { watching } from "./rules/watching.ts";

export interface EventStoreContractOptions {
  /** Registers a test: `test` of Vitest, Jest or `node:test`. */
  readonly test: (name: string, run: () => Promise<void>) => unknown;
  /** Makes a new, empty store. The contract closes it. */
  readonly create: () => Promise<EventStore>;
  /**
   * Opens a new handle on the events of `store`. `store` is closed by then; for a `multiProcess` store it may still be
   * open. Required if `capabilities` names `durable` or `multiProcess`.
   */
  readonly reopen?: (store: EventStore) => Promise<EventStore>;
  /** The capabilities to test beyond the rules that every store must keep. Default: none. */
  readonly capabilities?: Partial<EventStoreCapabilities>;
}

const RULES: readonly Rule[] = [
  ...commits,
  ...conflicts,
  ...checkedVerdicts,
  ...order,
  ...reading,
  ...cuts,
  ...compactions,
  ...rememberedOutcomes,
  ...fields,
  ...names,
  ...snapshots,
  ...checkpoints,
  ...subjectKeys,
  ...progress,
  ...deadLetters,
  ...watching,
  ...releasing,
  ...closing,
  ...durability,
  ...severalHandles,
  ...freshness,
  ...instances,
];

/**
 * Registers one test for each rule that every event store must keep, and one for each rule of the given capabilities.
 * A broken rule throws an error with the expected and the actual value, so any test runner works.
 */
export function eventStoreContract(options: EventStoreContractOptions): void {
  const { durable = false, multiProcess = false } = options.capabilities ?? {};
  const capabilities: EventStoreCapabilities = { durable, multiProcess };
  const { test, create, reopen = cannotReopen } = options;
  for (const rule of [...RULES, declares(capabilities)])
    if (rule.needs === undefined || capabilities[rule.needs]) test(rule.name, () => runRule(rule, create, reopen));
}

function declares(capabilities: EventStoreCapabilities): Rule {
  return {
    name: "a store declares the capabilities that are tested",
    async run({ store }) {
      for (const name of Object.keys(capabilities) as (keyof EventStoreCapabilities)[])
        if (capabilities[name]) equal(store.capabilities[name], true, name);
    },
  };
}

const cannotReopen: Reopen = () =>
  Promise.reject(
    new Error(
      "eventStoreContract expected the option `reopen`, which the capabilities `durable` and `multiProcess` need; found none",
    ),
  );
