# shellcheck shell=bash
# Valkey 9.1: the same as Redis
# needs: redis-cli redis-tools
# memory: 2G
server=$BUILD/valkey-server
. "$(dirname "$0")/redis.sh"
