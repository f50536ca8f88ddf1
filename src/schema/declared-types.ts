import type ts from "typescript";

/** The types of payloads that are declared by `data<T>()`, as texts. */
export interface DeclaredTypes {
  /** The type of an event's shape; `undefined` if the sources do not tell it. `shapes` is the number of shapes that the event has. */
  find(aggregate: string, event: string, step: number, shapes: number): string | undefined;
}

const NONE: DeclaredTypes = { find: () => undefined };

/** Reads the types of payloads from the TypeScript files that declare aggregates. Finds none without files, or without `typescript`. */
export async function declaredTypes(aggregates: readonly string[], sources: readonly string[]): Promise<DeclaredTypes> {
  const compiler = sources.length === 0 ? undefined : await loadCompiler();
  return compiler === undefined ? NONE : new SourceTypes(compiler, aggregates, sources);
}

async function loadCompiler(): Promise<typeof ts | undefined> {
  try {
    const loaded = (await import("typescript")) as unknown as { readonly default?: typeof ts } & typeof ts;
    const compiler = loaded.default ?? loaded;
    // The native compiler has no such interface.
    return typeof compiler.createProgram === "function" ? compiler : undefined;
  } catch {
    return undefined;
  }
}

class SourceTypes implements DeclaredTypes {
  readonly #ts: typeof ts;
  readonly #checker: ts.TypeChecker;
  /** By aggregate and event: the expression that declares the payload. */
  readonly #payloads = new Map<string, ts.Expression>();

  constructor(compiler: typeof ts, aggregates: readonly string[], sources: readonly string[]) {
    this.#ts = compiler;
    const program = compiler.createProgram({ rootNames: [...sources], options: this.#options(sources) });
    this.#checker = program.getTypeChecker();
    const wanted = new Set(aggregates);
    for (const file of program.getSourceFiles()) if (!file.isDeclarationFile) this.#visit(file, wanted);
  }

  #options(sources: readonly string[]): ts.CompilerOptions {
    const { sys } = this.#ts;
    const path = this.#ts.findConfigFile(sources[0] ?? ".", (name) => sys.fileExists(name));
    const directory = path === undefined ? sys.getCurrentDirectory() : path.replace(/[/\\][^/\\]*$/, "");
    const config =
      path === undefined
        ? {}
        : (this.#ts.readConfigFile(path, (name) => sys.readFile(name)).config as { compilerOptions?: object });
    const { options } = this.#ts.convertCompilerOptionsFromJson(config.compilerOptions ?? {}, directory);
    const { ScriptTarget, ModuleKind, ModuleResolutionKind } = this.#ts;
    const defaults = {
      target: ScriptTarget.ES2022,
      module: ModuleKind.NodeNext,
      moduleResolution: ModuleResolutionKind.NodeNext,
    };
    return {
      ...defaults,
      ...options,
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      allowImportingTsExtensions: true,
    };
  }

  find(aggregate: string, event: string, step: number, shapes: number): string | undefined {
    const payload = this.#payloads.get(`${aggregate}/${event}`);
    const found = payload === undefined ? [] : this.#shapes(payload);
    return found.length === shapes ? found[step] : undefined;
  }

  #visit(node: ts.Node, wanted: ReadonlySet<string>): void {
    if (this.#ts.isCallExpression(node)) this.#readContract(node, wanted);
    this.#ts.forEachChild(node, (child) => this.#visit(child, wanted));
  }

  /** `aggregate("type", { events, history })` */
  #readContract(call: ts.CallExpression, wanted: ReadonlySet<string>): void {
    const [type, contract] = call.arguments;
    if (type === undefined || contract === undefined || !this.#ts.isStringLiteralLike(type) || !wanted.has(type.text))
      return;
    if (this.#nameOf(call.expression) !== "aggregate") return;
    for (const [name, payload] of this.#properties(this.#property(contract, "events")))
      this.#payloads.set(`${type.text}/${name}`, payload);
    const history = this.#resolved(this.#property(contract, "history"));
    if (history === undefined || !this.#ts.isArrayLiteralExpression(history)) return;
    for (const item of history.elements) {
      const entry = this.#resolved(item);
      if (entry === undefined || !this.#ts.isCallExpression(entry) || this.#nameOf(entry.expression) !== "replaced")
        continue;
      const [from, payload] = entry.arguments;
      if (from !== undefined && payload !== undefined && this.#ts.isStringLiteralLike(from))
        this.#payloads.set(`${type.text}/${from.text}`, payload);
    }
  }

  /** The name that a function was declared with, also if it was imported under another one. */
  #nameOf(expression: ts.Expression): string | undefined {
    return this.#symbolOf(expression)?.name;
  }

  #symbolOf(node: ts.Node): ts.Symbol | undefined {
    const symbol = this.#checker.getSymbolAtLocation(node);
    return symbol !== undefined && (symbol.flags & this.#ts.SymbolFlags.Alias) !== 0
      ? this.#checker.getAliasedSymbol(symbol)
      : symbol;
  }

  /** The expression that a name stands for. */
  #resolved(expression: ts.Expression | undefined, depth = 0): ts.Expression | undefined {
    const { isAsExpression, isSatisfiesExpression, isParenthesizedExpression } = this.#ts;
    if (expression === undefined || depth > 20) return expression;
    if (isAsExpression(expression) || isSatisfiesExpression(expression) || isParenthesizedExpression(expression))
      return this.#resolved(expression.expression, depth + 1);
    if (!this.#ts.isIdentifier(expression) && !this.#ts.isPropertyAccessExpression(expression)) return expression;
    const declaration = this.#symbolOf(expression)?.valueDeclaration;
    if (declaration === undefined) return expression;
    if (this.#ts.isShorthandPropertyAssignment(declaration)) return this.#resolved(declaration.name, depth + 1);
    const isKnown = this.#ts.isVariableDeclaration(declaration) || this.#ts.isPropertyAssignment(declaration);
    return isKnown && declaration.initializer !== undefined
      ? this.#resolved(declaration.initializer, depth + 1)
      : expression;
  }

  #property(object: ts.Expression, name: string): ts.Expression | undefined {
    return this.#properties(object).get(name);
  }

  #properties(expression: ts.Expression | undefined): Map<string, ts.Expression> {
    const object = this.#resolved(expression);
    const found = new Map<string, ts.Expression>();
    if (object === undefined || !this.#ts.isObjectLiteralExpression(object)) return found;
    for (const property of object.properties) {
      if (this.#ts.isSpreadAssignment(property))
        for (const [name, value] of this.#properties(property.expression)) found.set(name, value);
      else if (this.#ts.isPropertyAssignment(property)) found.set(textOfName(property.name), property.initializer);
      else if (this.#ts.isShorthandPropertyAssignment(property)) {
        const value = this.#checker.getShorthandAssignmentValueSymbol(property)?.valueDeclaration;
        if (value !== undefined && this.#ts.isVariableDeclaration(value) && value.initializer !== undefined)
          found.set(property.name.text, value.initializer);
      }
    }
    return found;
  }

  /** The shapes of `data<V1>().to<V2>(f).to<V3>(g)`, the oldest first. */
  #shapes(expression: ts.Expression): string[] {
    const payload = this.#resolved(expression) ?? expression;
    const text = this.#shape(payload);
    if (this.#ts.isCallExpression(payload) && this.#ts.isPropertyAccessExpression(payload.expression)) {
      const { name, expression: before } = payload.expression;
      if (name.text === "to") return [...this.#shapes(before), text];
    }
    return [text];
  }

  /** The text of the type that a declaration's payload has. */
  #shape(expression: ts.Expression): string {
    let type: ts.Type | undefined = this.#checker.getTypeAtLocation(expression);
    for (const key of ["~standard", "types", "output"]) {
      const property = type === undefined ? undefined : this.#checker.getPropertyOfType(type, key);
      if (property === undefined) return "unknown";
      type = this.#checker.getNonNullableType(this.#checker.getTypeOfSymbolAtLocation(property, expression));
    }
    return type === undefined ? "unknown" : this.#text(type, []);
  }

  /** Spells out a type, so that it does not depend on names and on the order of properties. */
  #text(type: ts.Type, parents: readonly ts.Type[]): string {
    const { TypeFlags } = this.#ts;
    const inner = (part: ts.Type): string => this.#text(part, [...parents, type]);
    if (parents.includes(type)) return this.#checker.typeToString(type);
    if (type.isUnion()) {
      const texts = type.types.map(inner);
      const both = texts.includes("true") && texts.includes("false");
      const members = both ? [...texts.filter((text) => text !== "true" && text !== "false"), "boolean"] : texts;
      return [...new Set(members)].sort().join(" | ");
    }
    const isObject =
      (type.flags & TypeFlags.Object) !== 0 ||
      (type.isIntersection() && type.types.every(({ flags }) => (flags & TypeFlags.Object) !== 0));
    if (!isObject) return this.#checker.typeToString(type);
    if (this.#checker.isArrayType(type) || this.#checker.isTupleType(type)) {
      const items = this.#checker.getTypeArguments(type as ts.TypeReference).map(inner);
      if (this.#checker.isTupleType(type)) return `[${items.join(", ")}]`;
      return (items[0] ?? "").includes(" | ") ? `(${items[0]})[]` : `${items[0]}[]`;
    }
    const members = this.#checker.getPropertiesOfType(type).map((property) => {
      const isOptional = (property.flags & this.#ts.SymbolFlags.Optional) !== 0;
      const declared = this.#checker.getTypeOfSymbol(property);
      const value = isOptional ? this.#checker.getNonNullableType(declared) : declared;
      const mayBeNull =
        isOptional && declared.isUnion() && declared.types.some(({ flags }) => (flags & TypeFlags.Null) !== 0);
      return `${property.name}${isOptional ? "?" : ""}: ${inner(value)}${mayBeNull ? " | null" : ""}`;
    });
    for (const { keyType, type: value } of this.#checker.getIndexInfosOfType(type))
      members.push(`[${this.#checker.typeToString(keyType)}]: ${inner(value)}`);
    return members.length === 0 ? "{}" : `{ ${members.sort().join("; ")} }`;
  }
}

function textOfName(name: ts.PropertyName): string {
  return "text" in name ? name.text : name.getText();
}
