#!/usr/bin/env bash
# The system's Chromium for the tests of pages, where there is none and this user may install packages.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
else
  echo "There is no Chromium, so the tests of pages are skipped: apt-get install chromium"
fi
