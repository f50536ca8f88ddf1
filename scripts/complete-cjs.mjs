/** Completes the CommonJS output of the compiler in a directory (`dist/cjs` if none is given). */
import { readFileSync, writeFileSync } from "node:fs";

const directory = process.argv[2] ?? "dist/cjs";

writeFileSync(`${directory}/package.json`, '{ "type": "commonjs" }\n');

// `#open-directory` is mapped by the package.json of the package, which the one above hides. Browsers, for which the map is made, load the
// other output.
const importer = `${directory}/aggregate-store/directory-storage.js`;
const before = readFileSync(importer, "utf8");
const after = before.replaceAll('"#open-directory"', '"../file-store/open-directory.js"');
if (before === after) throw new Error(`${importer} no longer imports #open-directory: change this script`);
writeFileSync(importer, after);

// `import.meta` is a syntax error in CommonJS.
writeFileSync(
  `${directory}/fs/module-location.js`,
  '"use strict";\nObject.defineProperty(exports, "__esModule", { value: true });\nexports.moduleLocation = __filename;\n',
);
