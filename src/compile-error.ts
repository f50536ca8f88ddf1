/** Stands as the type of a parameter that cannot be given: its text is in the first line of the compiler's error. */
export interface CompileError<Text extends string> {
  readonly "~error": Text;
}
