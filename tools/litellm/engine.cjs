#!/usr/bin/env node
/*
 * Prisma's query engine for the Python client, from the package registry alone.
 *
 * The Python client starts a native program and speaks GraphQL over HTTP to it; that program is downloaded from a host
 * of Prisma's. The same engine, compiled to WebAssembly, is in the npm package @prisma/client, speaks JSON and reaches
 * the database through a driver of Node's. This file is the native program's place: its arguments, its HTTP paths, and
 * the translation between the two ways to write one request. What a query means is the engine's business alone.
 */
"use strict";

const http = require("node:http");
const fs = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");

if (process.argv.includes("--version")) {
  console.log("query-engine wasm");
  process.exit(0);
}
if (!process.argv.includes("-p")) {
  console.error("this is a query engine and nothing else");
  process.exit(1);
}

const ACTION = /^(findUnique|findFirst|findMany|createOne|createMany|updateOne|updateMany|upsertOne|deleteOne|deleteMany|aggregate|groupBy)(.+?)(OrThrow)?$/;
const RAW = new Set(["queryRaw", "executeRaw"]);
const packages = createRequire(path.join(process.env.PRISMA_BINARY_CACHE_DIR || __dirname, "package.json"));
const { parse } = packages("graphql");

/* -- what the schema says: GraphQL writes JSON as a string, the engine wants it marked ------------------------------- */

const schema = fs.readFileSync(process.env.PRISMA_DML_PATH, "utf8");
const MODELS = Object.fromEntries(
  [...schema.matchAll(/^model\s+(\w+)\s*\{([^]*?)^\}/gm)].map(([, model, lines]) => [
    model,
    Object.fromEntries([...lines.matchAll(/^\s+(\w+)\s+(\w+)/gm)].map(([, name, type]) => [name, type])),
  ]),
);
const NO_JSON = new Set(["path", "mode", "string_contains", "string_starts_with", "string_ends_with"]);

/* -- one request: GraphQL in, JSON to the engine ------------------------------------------------------------------ */

function member({ name, value: held }, model, json) {
  const type = (MODELS[model] || {})[name.value];
  return [name.value, value(held, type in MODELS ? type : model, json ? !NO_JSON.has(name.value) : type === "Json")];
}

/** Return what a node says, within `model`; `json`: it is what a field of type Json is set to or compared with. */
function value(node, model, json = false) {
  switch (node.kind) {
    case "IntValue": {
      const number = Number(node.value);
      return Number.isSafeInteger(number) ? number : { $type: "BigInt", value: node.value };
    }
    case "FloatValue":
      return Number(node.value);
    case "NullValue":
      return null;
    case "ListValue":
      return node.values.map((one) => value(one, model, json));
    case "ObjectValue":
      return Object.fromEntries(node.fields.map((field) => member(field, model, json)));
    case "StringValue":
      return json ? { $type: "Json", value: node.value } : node.value;
    default:
      return node.value; // a boolean, the name of an enum's member
  }
}

function body(field, model) {
  const related = (name) => (MODELS[model] || {})[name] || model;
  return {
    arguments: Object.fromEntries((field.arguments || []).map((one) => member(one, model, false))),
    selection: Object.fromEntries(
      (field.selectionSet ? field.selectionSet.selections : []).map((one) => [
        one.name.value,
        one.selectionSet || one.arguments.length ? body(one, related(one.name.value)) : true,
      ]),
    ),
  };
}

function translated(query) {
  const [field] = parse(query).definitions[0].selectionSet.selections;
  const name = field.name.value;
  if (RAW.has(name)) return { action: name, query: body(field, null) };
  const [, action, modelName, orThrow] = ACTION.exec(name);
  return { modelName, action: action + (orThrow || ""), query: body(field, modelName) };
}

/* -- one answer: the engine's typed values to the plain ones of GraphQL --------------------------------------------- */

function plain(data) {
  if (Array.isArray(data)) return data.map(plain);
  if (data === null || typeof data !== "object") return data;
  if ("$type" in data) return data.value;
  return Object.fromEntries(Object.entries(data).map(([key, one]) => [key, plain(one)]));
}

/** Return the rows of a raw query as the native engine of the Python client's release had them. */
function table({ columns, types, rows }) {
  const cell = (one, at) => ({ prisma__type: one === null ? "null" : types[at], prisma__value: one });
  return rows.map((row) => Object.fromEntries(row.map((one, at) => [columns[at], cell(one, at)])));
}

function named(answer, action) {
  if (!answer.data) return answer;
  const [result] = Object.values(answer.data);
  return { data: { result: action === "queryRaw" ? table(result) : plain(result) } };
}

/* -- the driver: two types of PostgreSQL's catalogue that the native engine knows and this driver does not ----------- */

const { PrismaPg } = packages("@prisma/adapter-pg");
const TEXT = 25;
const TEXTS = 1009;
const NAMES = { 19: TEXT, 1003: TEXTS }; // name, name[]

class Driver extends PrismaPg {
  async performIO(query) {
    const result = await super.performIO(query);
    if (!result.ok) return result;
    result.value.fields.forEach((field, at) => {
      if (!(field.dataTypeID in NAMES)) return;
      field.dataTypeID = NAMES[field.dataTypeID];
      if (field.dataTypeID !== TEXTS) return;
      for (const row of result.value.rows) row[at] = row[at] && packages("postgres-array").parse(row[at]);
    });
    return result;
  }
}

/* -- the engine ----------------------------------------------------------------------------------------------------- */

async function started() {
  const { Pool } = packages("pg");
  const { bindAdapter } = packages("@prisma/driver-adapter-utils");
  const runtime = path.join(path.dirname(packages.resolve("@prisma/client/package.json")), "runtime");
  const glue = require(path.join(runtime, "query_engine_bg.postgresql.js"));
  const wasm = new WebAssembly.Module(fs.readFileSync(path.join(runtime, "query_engine_bg.postgresql.wasm")));
  glue.__wbg_set_wasm(new WebAssembly.Instance(wasm, { "./query_engine_bg.js": glue }).exports);

  const url = new URL(process.env.DATABASE_URL);
  const connections = Number(url.searchParams.get("connection_limit")) || 10;
  url.search = "";
  const pool = new Pool({ connectionString: url.toString(), max: connections });
  pool.on("error", (error) => console.error(`query engine: ${error.message}`));
  const engine = new glue.QueryEngine(
    {
      datamodel: schema,
      env: process.env,
      logQueries: false,
      ignoreEnvVarErrors: true,
      datasourceOverrides: {},
      logLevel: "error",
      configDir: process.cwd(),
      engineProtocol: "json",
    },
    (line) => console.error(`query engine: ${line}`),
    bindAdapter(new Driver(pool)),
  );
  await engine.connect("{}");
  return engine;
}

async function queried(engine, sent, transaction) {
  const ask = async (request) => JSON.parse(await engine.query(JSON.stringify(request), "{}", transaction));
  if (sent.batch) {
    const batch = sent.batch.map((one) => translated(one.query));
    const answer = await ask({ batch, transaction: transaction ? undefined : {} });
    if (!answer.batchResult) return answer;
    return { batchResult: answer.batchResult.map((one, at) => named(one, batch[at].action)) };
  }
  const request = translated(sent.query);
  return named(await ask(request), request.action);
}

async function answered(engine, request, text) {
  const transaction = request.headers["x-transaction-id"];
  const [, room, id, act] = new URL(request.url, "http://engine").pathname.split("/");
  if (room === "status") return { status: "ok" };
  if (room === "metrics") return { counters: [], gauges: [], histograms: [] };
  if (room !== "transaction") return queried(engine, JSON.parse(text), transaction);
  if (id === "start") {
    return JSON.parse(await engine.startTransaction(JSON.stringify(JSON.parse(text)), "{}"));
  }
  const ended = act === "commit" ? await engine.commitTransaction(id, "{}") : await engine.rollbackTransaction(id, "{}");
  return JSON.parse(ended || "{}");
}

function refusal(error) {
  const told = typeof error === "string" ? error : String(error && error.message ? error.message : error);
  try {
    return { errors: [{ error: told, user_facing_error: JSON.parse(told) }] };
  } catch {
    return { errors: [{ error: told, user_facing_error: { message: told, is_panic: false, error_code: "P0000" } }] };
  }
}

const engine = started();
engine.catch((error) => {
  console.error("query engine:", error);
  process.exit(1);
});
const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", async () => {
    let answer;
    try {
      answer = await answered(await engine, request, Buffer.concat(parts).toString("utf8"));
    } catch (error) {
      answer = refusal(error);
    }
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(answer));
  });
});
server.keepAliveTimeout = 0;
server.listen(Number(process.argv[process.argv.indexOf("-p") + 1]), "localhost");
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
const parent = process.ppid;
setInterval(() => process.ppid === parent || process.exit(0), 1000);
