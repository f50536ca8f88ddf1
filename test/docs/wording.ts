/** Wording that this project avoids. */
export interface AvoidedWording {
  /** Matched regardless of case; a space matches any white space. */
  readonly words: RegExp;
  /** The words to use instead, or how to find them. */
  readonly instead: string;
  /** A text that the expression finds. */
  readonly example: string;
  /** True for expressions that depend on case. */
  readonly exact?: true;
}

export const AVOIDED: readonly AvoidedWording[] = [
  // Subjects that are neither a component nor the reader.
  {
    words: /\b(somebody|nobody|anybody|whoever|whomever)\b/,
    instead: "name the component, the caller or the reader",
    example: "Whoever touches the log reads this first",
  },
  {
    words: /(?<=(^|[.:;!?|*"`(])\s*)What (is|was|are|were|has|had|it|nobody|somebody)\b(?![^.!|"`]*\?)/,
    instead: "begin the sentence with its subject",
    example: "What is read for the first time is compared with that.",
    exact: true,
  },
  {
    words: /\b(is|are|was|were) told\b(?! apart)/,
    instead: "receives, reports, returns",
    example: "who conflicts is told",
  },
  // Places for times and orders.
  {
    words:
      /\bbehind (the|it|its|them|that|a|an|this|these|those|which|what|one|position|byte|version|sequence|each|every|all|\$|\d)/,
    instead: "after",
    example: "bytes behind the last LF",
  },
  { words: /\bin front of\b/, instead: "before", example: "the header in front of a body" },
  // One name for one thing.
  {
    words: /\bthe original('s)?\b/,
    instead: "the Rust crate",
    example: "lines that the original wrote",
  },
  {
    words: /\b(another|other) programs?\b/,
    instead: "the Rust crate, or another process",
    example: "another program",
  },
  { words: /\baside\b/, instead: "quarantine", example: "the tail is kept aside" },
  { words: /appointment/, instead: "scheduled command", example: "dueAppointments" },
  { words: /overtaken/, instead: "superseded", example: "the checkpoint was overtaken" },
  // Pictures, each of which once stood in a text of this project.
  {
    words:
      /certainly looks at nothing but|may have counted although|nothing is believed|not to be believed|what of it is lost|knows no test runner|what is wrong throws|has to be switched on|a no that|comes back when there is nothing left|in the same breath|the next thing in the same turn|who is about to take in|(has|have|gets|gives up) the floor|helps `?readAll`? to go on|this is none|are no line\b|is searched for begins/,
    instead: "say what happens, in the field's terms (PROSE: replay, checkpoint, lock holder, untrusted bytes …)",
    example: "in the same breath in which he takes note of the record",
  },
];
