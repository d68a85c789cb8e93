// GraphiQL on this server alone. It asks with the session of the overview page, or with a key in the header editor, which is
// never stored from here; `#key=` may have brought one along.
"use strict";

const KEY = new URLSearchParams(location.hash.slice(1)).get("key");
const HEADERS = KEY ? JSON.stringify({ Authorization: `Bearer ${KEY}` }, null, 2) : "";
const EXAMPLES = [
  `# It asks as whoever is logged in on the overview page. For another key, write under "Headers" below:
# {"Authorization": "Bearer PASTE-A-KEY-HERE"}
# Ctrl-Space completes, Ctrl-Enter runs. The other tabs are examples, too.

query LiveCost {
  customers(first: 10) {
    edges {
      node {
        key
        name
        cost {
          total { rounded currency }
          lines { text quantity amount { rounded } }
        }
        quotas {
          feature { key }
          limit
          used
          resetsAt
        }
      }
    }
  }
}
`,
  `# Who sent what: a customer's newest events. Its key is under "Variables" below.

query NewestEvents($customer: ID!) {
  events(customer: $customer, first: 10) {
    edges { node { id type subject time data } }
    pageInfo { hasNextPage endCursor }
  }
}
`,
  `# What is already owed moves here by itself, at each event that is counted. Run it, and stop it with the same button.

subscription CostChanged($customer: ID!) {
  costChanged(customer: $customer) {
    total { rounded currency }
    lines { text amount { rounded } }
    asOf
  }
}
`,
  `# One event. Sent again with the same id it is a duplicate, and counted once.

mutation OneEvent($events: [EventInput!]!) {
  ingest(events: $events) { accepted duplicates rejected { index code message } }
}
`,
];
const CUSTOMER = JSON.stringify({ customer: "acme" }, null, 2);
const EVENT = JSON.stringify({ events: [{ id: "example-1", type: "completion", subject: "acme", data: { tokens: 1000 } }] }, null, 2);
const TABS = EXAMPLES.map((query, index) => ({ query, headers: HEADERS, variables: [null, CUSTOMER, CUSTOMER, EVENT][index] }));

function posted(params, options, accept) {
  const headers = { "Content-Type": "application/json", Accept: accept, "Sidemeter-Page": "explorer", ...options?.headers };
  return fetch(location.pathname, { method: "POST", headers, body: JSON.stringify(params) });
}

const isSubscription = ({ operationName }, document) =>
  document?.definitions.some((each) => each.operation === "subscription" && (!operationName || each.name?.value === operationName));

/** The answers to a subscription as server-sent events, until they end or nobody takes them. */
async function* followed(params, options) {
  const answer = await posted(params, options, "text/event-stream");
  if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
    yield answer.json();
    return;
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const events = (rest + part.value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = event.startsWith("event: next\n") && event.split("\ndata: ")[1];
        if (data) yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel();
  }
}

const ask = (params, options) => (isSubscription(params, options?.documentAST) ? followed(params, options) : posted(params, options, "application/json").then((answer) => answer.json()));

function Explorer() {
  const [headers, setHeaders] = React.useState(HEADERS);
  // A new fetcher makes GraphiQL read the schema again, now with the key that was just pasted.
  const fetcher = React.useMemo(() => (params, options) => ask(params, options), [headers]);
  return React.createElement(GraphiQL, {
    fetcher,
    defaultQuery: EXAMPLES[0],
    defaultTabs: TABS,
    defaultHeaders: HEADERS,
    defaultEditorToolsVisibility: "headers",
    isHeadersEditorEnabled: true,
    shouldPersistHeaders: false,
    onEditHeaders: setHeaders,
  });
}

ReactDOM.createRoot(document.getElementById("explorer")).render(React.createElement(Explorer));
