import * as library from "eventfold-es";
import { wholeProgram } from "./whole-program.mjs";

wholeProgram(library, process.argv[2]).then(
  (result) => console.log(JSON.stringify(result)),
  (error) => {
    console.error(`${error.code}: ${error.message}`);
    process.exitCode = 1;
  },
);
