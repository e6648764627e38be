#!/usr/bin/env bash
# Terraform's external protocol: a JSON object of strings in, one out.
set -euo pipefail
query=$(cat)
file=$(jq -r .file <<<"$query")
name=$(jq -r .name <<<"$query")
out=$(vouchsafe chain check --json --name "$name" ${ROOTS:+--roots "$ROOTS"} ${TIME:+--time "$TIME"} "$file") || [ $? -eq 3 ]
jq -c '{verdict, codes: ([.findings[].code] | join(" ")), remedy: (.findings[0].remedy // "")}' <<<"$out"
