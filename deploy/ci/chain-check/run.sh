#!/usr/bin/env bash
# Checks $FILES (a shell pattern) and writes vouchsafe-chain.sarif. Used by the
# GitHub Action and the GitLab job beside it; exit code as vouchsafe's: 0 nothing
# to mend, 3 there are findings, 1 a file could not be read.
set -uo pipefail
args=()
[ -z "${NAME:-}" ] || args+=(--name "$NAME")
[ -z "${ROOTS:-}" ] || args+=(--roots "$ROOTS")
[ -z "${INTERMEDIATES:-}" ] || args+=(--intermediates "$INTERMEDIATES")
[ -z "${TIME:-}" ] || args+=(--time "$TIME")
shopt -s nullglob globstar
# shellcheck disable=SC2206 # the pattern is meant to be expanded
files=($FILES)
if [ ${#files[@]} -eq 0 ]; then
	echo "no file matches $FILES" >&2
	exit 1
fi
vouchsafe chain check --sarif "${args[@]}" -- "${files[@]}" >vouchsafe-chain.sarif
code=$?
[ $code -eq 0 ] || vouchsafe chain check "${args[@]}" -- "${files[@]}" || true
exit $code
