// GraphiQL on this server alone. The key is in the header editor and is never stored from here; `#key=` or the
// overview page of the same tab may have brought one along.
"use strict";

const KEY = new URLSearchParams(location.hash.slice(1)).get("key") ?? sessionStorage.getItem("sidemeter-key");
const HEADERS = JSON.stringify({ Authorization: `Bearer ${KEY ?? "PASTE-A-KEY-HERE"}` }, null, 2);
const QUERY = `# Paste an API key under "Headers" below.
# Ctrl-Space completes, Ctrl-Enter runs.

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
`;

async function ask(params, options) {
  const answer = await fetch(location.pathname, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...options?.headers },
    body: JSON.stringify(params),
  });
  return answer.json();
}

function Explorer() {
  const [headers, setHeaders] = React.useState(HEADERS);
  // A new fetcher makes GraphiQL read the schema again, now with the key that was just pasted.
  const fetcher = React.useMemo(() => (params, options) => ask(params, options), [headers]);
  return React.createElement(GraphiQL, {
    fetcher,
    defaultQuery: QUERY,
    defaultHeaders: HEADERS,
    defaultEditorToolsVisibility: "headers",
    isHeadersEditorEnabled: true,
    shouldPersistHeaders: false,
    onEditHeaders: setHeaders,
  });
}

ReactDOM.createRoot(document.getElementById("explorer")).render(React.createElement(Explorer));
