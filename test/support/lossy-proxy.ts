import * as net from "node:net";

/** What happens to the next piece that comes over a connection. */
export type Fate = "forward" | "swallow";

/**
 * A proxy before a server. It can lose what goes through it: requests that never arrive, and answers of requests that were carried out. A lost message ends its connection.
 */
export class LossyProxy {
  /** The server's address, through the proxy. */
  readonly url: string;
  /** Decides about each piece of an answer; the request was carried out by then, or is in part. */
  onAnswer: (bytes: Buffer) => Fate = () => "forward";
  /** Decides about each piece of a request. */
  onRequest: (bytes: Buffer) => Fate = () => "forward";
  /** How many pieces were lost. */
  lost = 0;
  /** Takes bytes and passes nothing on, like a network that drops everything. */
  isSilent = false;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  #isDown = false;

  private constructor(server: net.Server, url: URL) {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("the proxy has no port");
    this.#server = server;
    this.url = Object.assign(new URL(url), { host: `127.0.0.1:${address.port}` }).href;
    const target = { host: url.hostname, port: Number(url.port) };
    server.on("connection", (client) => this.#connect(client, target));
  }

  static async start(url: string): Promise<LossyProxy> {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new LossyProxy(server, new URL(url));
  }

  /** Breaks all connections and takes no new ones. */
  down(): void {
    this.#isDown = true;
    this.#breakAll();
  }

  up(): void {
    this.#isDown = false;
  }

  async stop(): Promise<void> {
    this.#breakAll();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #breakAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #connect(client: net.Socket, target: { readonly host: string; readonly port: number }): void {
    if (this.#isDown) {
      client.destroy();
      return;
    }
    const server = net.connect({ ...target, noDelay: true });
    client.setNoDelay(true);
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on("error", end);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        end();
      });
    }
    const pass = (from: net.Socket, to: net.Socket, fate: (bytes: Buffer) => Fate): void => {
      from.on("data", (bytes) => {
        if (this.isSilent) return;
        if (fate(bytes) === "forward") {
          to.write(bytes);
          return;
        }
        this.lost++;
        end();
      });
    };
    pass(client, server, (bytes) => this.onRequest(bytes));
    pass(server, client, (bytes) => this.onAnswer(bytes));
  }
}
