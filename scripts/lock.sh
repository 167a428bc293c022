#!/bin/sh
# Resolve requirements/*.in for Python 3.11-3.13 on every platform into hashed lists that name no address.
# Pins that still fit are kept; `sh scripts/lock.sh --upgrade` takes the newest.
set -eu
cd "$(dirname "$0")/.."
for name in demo dev bench crewai; do
	# CrewAI is resolved for the platforms that pyproject.toml names, which is read without --no-config only.
	configured=--no-config
	if [ "$name" = crewai ]; then configured=; fi
	# A local mirror's wheels may carry other hashes than the index's: none is consulted here.
	env -u UV_FIND_LINKS -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL \
		"${BIN:-.venv/bin}/uv" pip compile --quiet $configured --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links \
		--no-emit-package flowcraft --no-emit-package flowcraft-anthropic --no-emit-package flowcraft-openai \
		"$@" "requirements/$name.in" --output-file "requirements/$name.txt"
done
