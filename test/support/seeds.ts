import fc from "fast-check";

// In CI, random tests have fixed seeds: whether a run passes depends on the change alone. `npm test` tries new ones each time.
if (process.env["CI"] !== undefined) fc.configureGlobal({ seed: 20_261_130 });
