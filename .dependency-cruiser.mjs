/** The layers of ARCHITECTURE.md, as rules. Type-only imports count: a type is a dependency, too. */

const CORE_LAYERS =
  "transfer|personal|aggregate|projection|process-manager|subscription|event-store|command-bus|testing";

/** The rooms of the file store, each with the rooms that it may import. `open-store.ts` and `file-event-store.ts` are above them. */
const FILE_STORE_ROOMS = [
  ["disk", ""],
  ["keys", "disk"],
  ["lines", "disk"],
  ["log", "lines|disk"],
  ["progress", "log|lines|disk"],
  ["streams", "log|lines|disk"],
  ["caches", "streams|progress|log|lines|disk"],
  ["apply", "streams|progress|log|lines|disk"],
  ["recovery", "apply|streams|progress|log|lines|disk"],
  ["copy", "keys|recovery|apply|caches|streams|progress|log|lines|disk"],
  ["reclaim", "recovery|apply|caches|streams|progress|log|lines|disk"],
  ["commit", "recovery|apply|streams|progress|log|lines|disk"],
];

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    {
      name: "no-cycles",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "no-unresolvable",
      comment: "An import that cannot be resolved escapes every other rule.",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: "node-fs-only-in-fs",
      comment: "One importer of node:fs, so that a recording or failing file system can take its place.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(fs|cli)/" },
      to: { path: "^(node:)?fs(/promises)?$" },
    },
    {
      name: "platform-only-in-fs-and-file-store",
      comment: "Everything else runs without Node, e.g. in a browser with another store.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(fs|file-store|doctor|tracing|otel|cli|personal/cipher\\.ts$)" },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "cipher-only-types-of-node",
      comment: "An import that remains would fail in a browser.",
      severity: "error",
      from: { path: "^src/personal/" },
      to: { dependencyTypes: ["core"], dependencyTypesNot: ["type-only"] },
    },
    {
      name: "personal-below-the-readers",
      comment: "What encrypts is a store between the readers of events and the store that keeps them.",
      severity: "error",
      from: { path: "^src/personal/" },
      to: {
        path: "^src/",
        pathNot: "^src/(personal/|event-store/|aggregate/personal-fields\\.ts$|(arrays|errors|json)\\.ts$)",
      },
    },
    {
      name: "tracing-only-types-of-diagnostics-channel",
      comment: "An import that remains would fail in a browser.",
      severity: "error",
      from: { path: "^src/tracing/" },
      to: { dependencyTypes: ["core"], dependencyTypesNot: ["type-only"] },
    },
    {
      name: "tracing-only-diagnostics-channel",
      severity: "error",
      from: { path: "^src/tracing/" },
      to: { dependencyTypes: ["core"], pathNot: "^(node:)?diagnostics_channel$" },
    },
    {
      name: "packages-only-in-fs-and-file-store",
      comment:
        "src/ has two dependencies, both for files. Development dependencies and undeclared ones are none of them.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(fs|file-store|otel|cli|schema/declared-types)" },
      to: { path: "node_modules" },
    },
    {
      name: "packages-declared",
      severity: "error",
      from: { path: "^src/(fs|file-store)/" },
      to: { path: "node_modules", dependencyTypesNot: ["npm"] },
    },
    {
      name: "otel-only-types-of-the-api",
      comment: "The caller passes the package @opentelemetry/api, so that it stays optional.",
      severity: "error",
      from: { path: "^src/otel/" },
      to: { path: "node_modules", pathNot: "node_modules/@opentelemetry/api/" },
    },
    {
      name: "otel-imports-no-package",
      severity: "error",
      from: { path: "^src/otel/" },
      to: { path: "node_modules", dependencyTypesNot: ["type-only"] },
    },
    {
      name: "otel-only-listens",
      comment: "The bridge to OpenTelemetry is a subscriber of the tracing channels like any other.",
      severity: "error",
      from: { path: "^src/otel/" },
      to: { path: "^src/", pathNot: "^src/(otel/|tracing/|realm\\.ts$)" },
    },
    {
      name: "nothing-imports-otel",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/otel/" },
      to: { path: "^src/otel/" },
    },
    {
      name: "core-knows-no-backend",
      comment: "Aggregates, projections and the like know the event-store port only.",
      severity: "error",
      from: { path: `^src/(${CORE_LAYERS})/` },
      to: { path: "^src/file-store/" },
    },
    {
      name: "core-knows-no-postgres",
      comment: "The store in PostgreSQL is an entry point of its own, which nothing else imports.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(postgres|cli)/" },
      to: { path: "^src/postgres/" },
    },
    {
      name: "postgres-knows-the-port-only",
      severity: "error",
      from: { path: "^src/postgres/" },
      to: {
        path: "^src/",
        pathNot:
          "^src/(postgres/|event-store/|tracing/|(errors|json|fingerprint|event-loop|real-timers|realm|duration|stream-names|cut)\\.ts$)",
      },
    },
    {
      name: "core-knows-no-jetstream",
      comment: "The store in JetStream is an entry point of its own, which nothing else imports.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(jetstream|cli)/" },
      to: { path: "^src/jetstream/" },
    },
    {
      name: "jetstream-knows-the-port-and-replicas",
      comment: "A replica is a store in a directory, which it opens by `open-replica.ts` and uses by the port.",
      severity: "error",
      from: { path: "^src/jetstream/" },
      to: {
        path: "^src/",
        pathNot:
          "^src/(jetstream/|event-store/|tracing/|file-store/open-replica\\.ts$|(errors|json|real-timers|realm|duration|stream-names|cut)\\.ts$)",
      },
    },
    {
      name: "the-facade-opens-directories-only",
      comment: "`#open-directory` is the one way to the file store, which a bundle for a browser replaces.",
      severity: "error",
      from: { path: "^src/aggregate-store/" },
      to: { path: "^src/(file-store|doctor|postgres|jetstream)/", pathNot: "^src/file-store/open-directory\\.ts$" },
    },
    {
      name: "contracts-know-no-stores",
      severity: "error",
      from: { path: "^src/contract\\.ts$" },
      to: { path: "^src/", pathNot: "^src/aggregate/" },
    },
    {
      name: "core-knows-no-file-system",
      comment: "The simulated disk implements the file-system port. Nothing else above the stores touches files.",
      severity: "error",
      from: { path: `^src/(${CORE_LAYERS})/`, pathNot: "^src/testing/(index\\.ts$|disk/|crash/)" },
      to: { path: "^src/fs/" },
    },
    {
      name: "nothing-imports-the-entry-points",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(testing|cli)/" },
      to: { path: "^src/((doctor/)?index\\.ts$|testing/)" },
    },
    {
      name: "testing-does-not-import-index",
      severity: "error",
      from: { path: "^src/testing/" },
      to: { path: "^src/index\\.ts$" },
    },
    {
      name: "nothing-imports-the-doctor",
      comment: "verify and repair are an entry point of their own. They know the file store, which does not know them.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(doctor|cli)/" },
      to: { path: "^src/doctor/" },
    },
    {
      name: "doctor-uses-lower-rooms",
      comment: "The doctor looks at files. It opens no store, commits nothing and applies nothing.",
      severity: "error",
      from: { path: "^src/doctor/" },
      to: {
        path: "^src/file-store/",
        pathNot: "^src/file-store/(disk|keys|lines|log|streams|progress|caches|recovery)/",
      },
    },
    {
      name: "doctor-scan-is-lowest",
      severity: "error",
      from: { path: "^src/doctor/scan/" },
      to: { path: "^src/doctor/(checks|fixes)/" },
    },
    {
      name: "doctor-checks-below-fixes",
      severity: "error",
      from: { path: "^src/doctor/checks/" },
      to: { path: "^src/doctor/fixes/" },
    },
    {
      name: "doctor-rooms-below-its-entry",
      severity: "error",
      from: { path: "^src/doctor/(scan|checks|fixes)/" },
      to: { path: "^src/doctor/[^/]+\\.ts$", pathNot: "^src/doctor/findings\\.ts$" },
    },
    ...FILE_STORE_ROOMS.map(([room, below]) => ({
      name: `file-store-${room}`,
      comment: `${room}/ may import ${below === "" ? "no other room" : below.replaceAll("|", "/, ") + "/"} of the file store.`,
      severity: "error",
      from: { path: `^src/file-store/${room}/` },
      to: { path: "^src/file-store/", pathNot: `^src/file-store/(${below === "" ? room : `${room}|${below}`})/` },
    })),
    {
      name: "testing-rooms-are-independent",
      comment:
        "The contract, the given/when/then specs, the clock and the simulated disk know no other room of src/testing.",
      severity: "error",
      from: { path: "^src/testing/(clock\\.ts$|contract/|spec/|disk/)" },
      to: { path: "^src/testing/", pathNot: "^src/testing/$1" },
    },
    {
      name: "testing-crash-stands-on-disk",
      comment: "The crash explorer knows the simulated disk, and no other room of src/testing.",
      severity: "error",
      from: { path: "^src/testing/crash/" },
      to: { path: "^src/testing/", pathNot: "^src/testing/(crash|disk)/" },
    },
    {
      name: "testing-disk-knows-only-the-file-system-port",
      severity: "error",
      from: { path: "^src/testing/(disk|crash)/" },
      to: { path: "^src/", pathNot: "^src/(fs/file-system\\.ts$|(event-loop|real-timers|realm)\\.ts$|testing/)" },
    },
    {
      name: "contract-rules-know-no-runner",
      comment: "A rule of the contract knows the port and its helpers; only event-store-contract.ts lists the rules.",
      severity: "error",
      from: { path: "^src/testing/contract/", pathNot: "^src/testing/contract/event-store-contract\\.ts$" },
      to: { path: "^src/testing/contract/(event-store-contract\\.ts$|rules/)" },
    },
    {
      name: "contract-knows-only-the-port",
      severity: "error",
      from: { path: "^src/testing/contract/", pathNot: "/rules/instances\\.ts$" },
      to: {
        path: "^src/",
        pathNot:
          "^src/(event-store/(event-store|commit-signal)\\.ts$|(cut|errors|real-timers|realm)\\.ts$|testing/contract/)",
      },
    },
    {
      name: "contract-runs-aggregates-in-one-place",
      comment: "Whether a decision rests on the newest version shows only with aggregates on the store.",
      severity: "error",
      from: { path: "^src/testing/contract/rules/instances\\.ts$" },
      to: {
        path: "^src/",
        pathNot:
          "^src/(aggregate/(aggregate|payload)\\.ts$|aggregate-store/instances\\.ts$|event-store/event-store\\.ts$|errors\\.ts$|testing/contract/)",
      },
    },
    {
      name: "cli-uses-public-names",
      comment: "The command line is a program like any other: it imports the package, not its files.",
      severity: "error",
      from: { path: "^src/cli/" },
      to: {
        path: "^src/",
        pathNot: "^src/(cli/|(index|doctor/index|testing/index|postgres/index|jetstream/index|schema/index)\\.ts$)",
      },
    },
    {
      name: "nobody-imports-cli",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/cli/" },
      to: { path: "^src/cli/" },
    },
    {
      name: "examples-use-public-names",
      comment: "Examples show what users can do: they import the package, not its files.",
      severity: "error",
      from: { path: "^examples/" },
      to: { path: "^src/", pathNot: "^src/(index|testing/index|postgres/index|jetstream/index|schema/index)\\.ts$" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    // What the benchmark installs, compiles and measures.
    exclude: { path: "^(bench/(node_modules|[.])|test/package/projects/)" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["eventfold-es-source", "import", "types", "node", "default"],
    },
  },
};
