// A study driven from Node with its own objective, over the plain contracts.
//
//   node study.mjs PROTOS ADDRESS TOKEN TRIALS
//
// Creates a study, leases, reports and completes trials, reads the best, and prints it as JSON.

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { promisify } from "node:util";

const [protos, address, token, trials] = process.argv.slice(2);

const definition = loadSync("keeptune/v1/search.proto", {
  includeDirs: [protos],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { SearchService } = grpc.loadPackageDefinition(definition).keeptune.v1;
const client = new SearchService(address, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${token}`);

function call(method, request) {
  const deadline = new Date(Date.now() + 60_000);
  return promisify(client[method].bind(client))(request, metadata, { deadline });
}

// Branin's function, which has its minimum of 0.397887 at three places, plus a price per category.
function branin(x, y) {
  const b = 5.1 / (4 * Math.PI ** 2);
  const wave = 10 * (1 - 1 / (8 * Math.PI)) * Math.cos(x);
  return (y - b * x ** 2 + (5 / Math.PI) * x - 6) ** 2 + wave + 10;
}

const PRICES = { cheap: 0, fair: 1, dear: 5 };

function objective({ x, y, kind }) {
  return branin(x.double_value, y.double_value) + PRICES[kind.string_value];
}

const study = await call("CreateStudy", {
  study_id: "from-node",
  request_id: "from-node/create",
  study: {
    space: {
      parameters: [
        { name: "x", float_range: { min: -5, max: 10 } },
        { name: "y", float_range: { min: 0, max: 15 } },
        {
          name: "kind",
          categories: { values: Object.keys(PRICES).map((string_value) => ({ string_value })) },
        },
        {
          name: "tip",
          int_range: { min: 1, max: 3 },
          conditions: [{ parent: "kind", values: { values: [{ string_value: "dear" }] } }],
        },
      ],
    },
    metrics: [{ name: "value", goal: "GOAL_MINIMIZE" }],
    budget: { max_trials: Number(trials) },
    pruning: { median: {} },
    seed: 1,
  },
});

const values = [];
let pruned = 0;
let answer = await call("SuggestTrials", { study: study.name, worker: "node", count: 1 });
while (answer.trials.length) {
  const [{ trial, lease }] = answer.trials;
  if ("tip" in trial.parameters !== (trial.parameters.kind.string_value === "dear")) {
    throw new Error(`the condition does not hold: ${JSON.stringify(trial.parameters)}`);
  }
  const value = objective(trial.parameters);
  let directive = "TRIAL_DIRECTIVE_CONTINUE";
  for (let step = 1; step <= 3 && directive === "TRIAL_DIRECTIVE_CONTINUE"; step++) {
    ({ directive } = await call("ReportMeasurements", {
      trial: trial.name,
      lease_token: lease.token,
      measurements: [{ step, metrics: { value: value * (1 + 1 / step) } }],
    }));
  }
  const stopped = directive === "TRIAL_DIRECTIVE_STOP";
  pruned += stopped;
  const done = await call("CompleteTrial", {
    trial: trial.name,
    lease_token: lease.token,
    ...(stopped ? { pruned: {} } : { measurement: { metrics: { value } } }),
    next: 1,
  });
  if (!done.accepted) throw new Error(`not accepted: ${done.reason}`);
  if (!stopped) values.push(value);
  answer = done.next;
}

// Errors carry their details: a NaN is refused by name.
let refusal;
try {
  await call("CreateStudy", {
    study: {
      space: { parameters: [{ name: "x", float_range: { min: NaN, max: 1 } }] },
      metrics: [{ name: "value", goal: "GOAL_MINIMIZE" }],
      budget: { max_trials: 1 },
    },
  });
} catch (error) {
  refusal = { code: grpc.status[error.code], message: error.details };
}

const best = await call("ListOptimalTrials", { parent: study.name });
const ended = await call("GetStudy", { name: study.name });
console.log(
  JSON.stringify({
    state: ended.state,
    chosen: ended.chosen_algorithm,
    counts: ended.trial_counts,
    completed: values.length,
    pruned,
    best: best.trials[0].final_measurement.metrics.value,
    best_seen: Math.min(...values),
    refusal,
  }),
);
client.close();
