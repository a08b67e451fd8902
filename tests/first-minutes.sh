#!/usr/bin/env bash
# The first five minutes of somebody who has never heard of Spillway, timed: an archive, unpacked into an empty root; the
# demo; a Spillway of their own before a mock provider; an official SDK through it; and a policy that is written, built,
# checked, dropped in, and judges.
#
#   tests/first-minutes.sh ARCHIVE.tar.gz PYTHON
#
# PYTHON has the package `openai`. It needs root, for the empty root; and, for the policy, Cargo with the Wasm target.
set -euo pipefail

[ $# -eq 2 ] || { sed -n '6p' "$0" >&2; exit 2; }
archive=$(realpath "$1")
python=$2
root=$(mktemp -d)
log=$root/run.log
started=()

leave() {
    # Only what this script has started.
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    rm -rf "$root"
}
trap leave EXIT

seconds_since() { awk -v from="$1" -v to="$(date +%s.%N)" 'BEGIN { printf "%.1f", to - from }'; }
began=$(date +%s.%N)
# Runs a step, says what it is, and how long it took.
step() {
    local name=$1 from
    shift
    from=$(date +%s.%N)
    printf '\n== %s\n' "$name"
    "$@"
    printf '== took %s s\n' "$(seconds_since "$from")"
}
# Waits until a file holds a line, which it prints; half a minute at most.
line() {
    local _
    for _ in $(seq 300); do
        grep --max-count=1 -- "$2" "$1" 2>/dev/null && return
        sleep 0.1
    done
    printf 'no line with "%s" in %s:\n' "$2" "$1" >&2
    cat "$1" >&2
    return 1
}
# Spillway, where there is nothing but what the archive held.
in_root() { chroot "$root" /spillway "$@"; }

step "unpack" tar --extract --file "$archive" --directory "$root" --strip-components=1
ls "$root"
step "spillway demo --fast" in_root demo --fast

chroot "$root" /spillway mock-provider >"$root/mock.log" 2>&1 &
started+=($!)
provider=$(line "$root/mock.log" http:// | grep --only-matching 'http://[0-9.:]*')
# An address of this machine's that nobody else uses, so that the ports are those of a first start.
cat >"$root/spillway.toml" <<CONFIGURATION
[server]
listen = "127.77.0.1:4141"

[admin]
listen = "127.77.0.1:4142"

[upstreams.openai]
url = "$provider"
policy = "my-provider"
CONFIGURATION
step "spillway check" in_root check

chroot "$root" /spillway run >"$log" 2>&1 &
started+=($!)
step "spillway run" line "$log" 'ready'
eval "$(in_root env --shell sh)"
echo "OPENAI_BASE_URL=$OPENAI_BASE_URL"

# What an application does: the official SDK, which knows nothing of Spillway.
ask() {
    OPENAI_API_KEY=sk-mock "$python" - <<'PYTHON'
import openai
client = openai.OpenAI(max_retries=0)
try:
    answer = client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}])
    print("answered:", answer.choices[0].message.content)
except openai.APIStatusError as error:
    print("refused:", error.status_code, error.response.headers.get("x-spillway-policy"), error.message)
PYTHON
}
# Has the mock provider do something else from here on.
provider_does() {
    "$python" -c 'import sys, urllib.request; urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="POST")).read()' \
        "$provider/_control/$1"
}
calls() {
    "$python" -c 'import json, sys, urllib.request; print(json.load(urllib.request.urlopen(sys.argv[1]))["started"])' \
        "$provider/_control/stats"
}
step "a request of the official SDK" ask | tee "$root/asked"
grep --quiet '^answered:' "$root/asked"

# A policy is built outside of the empty root, where Cargo is, and by the same file.
spillway=$root/spillway
cd "$root"
step "spillway policy new" "$spillway" policy new my-provider
step "spillway policy test" "$spillway" policy test my-provider
step "spillway policy build --install" "$spillway" policy build my-provider --install
step "spillway policy check" "$spillway" policy check policies/my-provider.wasm
serves() {
    local _
    for _ in $(seq 100); do
        "$spillway" policy ls | grep 'my-provider' | grep --invert-match 'built-in' && return
        sleep 0.1
    done
    return 1
}
step "it takes over" serves

# The provider says once that the quota is spent. The policy rests the key for a quarter of an hour, so the second
# request is refused without a call.
provider_does spent-quota
step "a request that the provider refuses" ask | tee "$root/asked"
grep --quiet '^refused: 429 my-provider@' "$root/asked"
provider_does heal
before=$(calls)
step "a request that the policy spares" ask | tee "$root/asked"
grep --quiet '^refused: 429' "$root/asked"
[ "$before" = "$(calls)" ] || { echo "the provider was called" >&2; exit 1; }
step "spillway status" "$spillway" status || true

printf '\nAll of it took %s s.\n' "$(seconds_since "$began")"
