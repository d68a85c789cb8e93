#!/bin/sh
# Record, check and consume from any language: plain HTTP over the sidecar's Unix socket, here with curl.
#
#     sidemeter agent --data-dir data --socket run/agent.sock --service shell &
#     sh examples/any_language.sh run/agent.sock
set -eu
socket=$1

agent() { # method, path, JSON
    curl --silent --show-error --fail-with-body --unix-socket "$socket" \
        --request "$1" "http://sidemeter$2" --header 'Content-Type: application/json' ${3:+--data "$3"}
    echo
}

# One event. Its id makes a retry harmless: sent twice, counted once.
agent POST /v1/events '{"id": "call-1", "type": "llm.completion", "subject": "acme", "data": {"input_tokens": 812}}'
agent POST /v1/events '{"id": "call-1", "type": "llm.completion", "subject": "acme", "data": {"input_tokens": 812}}'

# An array: what is valid is kept, what is not is named.
agent POST /v1/events '[
    {"type": "llm.completion", "subject": "acme", "data": {"input_tokens": 2048}},
    {"type": "llm.completion", "subject": ""}
]'

# May this customer do this? A "no" is an answer, not an error.
agent POST /v1/check '{"subject": "acme", "feature": "chat", "quantity": 1}'

# Check and record as one step.
agent POST /v1/consume '{"type": "http.request", "subject": "acme", "data": {"route": "/chat"}}'

# What the agent knows of this customer's limits.
agent GET /v1/quota/acme
