// GraphiQL on this server alone. It asks with the session of the overview page, or with a key in the header editor, which is
// never stored from here; `#key=` may have brought one along.
"use strict";

const KEY = new URLSearchParams(location.hash.slice(1)).get("key");
const HEADERS = KEY ? JSON.stringify({ Authorization: `Bearer ${KEY}` }, null, 2) : "";
const QUERY = `# It asks as whoever is logged in on the overview page. For another key, write under "Headers" below:
# {"Authorization": "Bearer PASTE-A-KEY-HERE"}
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
    headers: { "Content-Type": "application/json", "Sidemeter-Page": "explorer", ...options?.headers },
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
