// Runs a wasm32-wasi program under Node: node wasi_run.mjs program.wasm [arguments]
import { readFile } from "node:fs/promises";
import { WASI } from "node:wasi";

const [path, ...rest] = process.argv.slice(2);
const env = process.env.RV_TEST_ISA ? { RV_TEST_ISA: process.env.RV_TEST_ISA } : {};
const wasi = new WASI({ version: "preview1", args: [path, ...rest], env, returnOnExit: true });
const module = await WebAssembly.compile(await readFile(path));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exitCode = wasi.start(instance);
