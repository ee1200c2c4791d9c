#!/bin/sh
# Starts the probe agent of this node. The join token is used once; from the second start on the agent has its own key.
set -eu
. "${TENDRIL_ENV:-/etc/tendril/agent.env}"
export TENDRIL_NODE TENDRIL_URL TENDRIL_JOIN_TOKEN
if [ -z "${TENDRIL_ADDRESS}" ]; then
  TENDRIL_ADDRESS=$(ip -o route get 192.0.2.1 | sed -n 's/.* src \([^ ]*\).*/\1/p')
fi
PATH="/opt/tendril/bin:${PATH}"
# shellcheck disable=SC2086 # options are words on purpose
exec tendril agent run \
  --state-dir "${TENDRIL_STATE:-/var/lib/tendril}" \
  --address "internet=${TENDRIL_ADDRESS}" \
  --media-url "${TENDRIL_MEDIA_URL}" \
  --reflector-port "${TENDRIL_REFLECTOR_PORT}" \
  --probe-port "${TENDRIL_PROBE_PORT}" \
  --relay-port "${TENDRIL_RELAY_PORT}" \
  ${TENDRIL_OPTIONS} ${TENDRIL_MORE_OPTIONS:-}
