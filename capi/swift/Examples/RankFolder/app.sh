#!/bin/bash
# Makes and signs RankFolder.app, after `swift build -c release`. IDENTITY names the
# certificate, as in "Developer ID Application: ..."; - signs for this Mac alone.
set -euo pipefail
cd "$(dirname "$0")"
app=RankFolder.app
rm -rf "$app"
mkdir -p "$app/Contents/MacOS" "$app/Contents/Frameworks"
cp Info.plist "$app/Contents/"
cp .build/release/RankFolder "$app/Contents/MacOS/"
cp -R .build/release/*.framework "$app/Contents/Frameworks/"
options=(--force --sign "${IDENTITY:?}")
if [ "$IDENTITY" != - ]; then
  options+=(--timestamp --options runtime) # which notarisation needs
fi
# Each framework before the app that has it.
for bundle in "$app"/Contents/Frameworks/*.framework "$app"; do
  codesign "${options[@]}" "$bundle"
done
