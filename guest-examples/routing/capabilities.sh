#!/bin/sh
# Prints a configuration for so many users, topics, and events for each topic:
#   routing/capabilities.sh 1000 1000 10 > routing/capabilities.toml
set -eu
users=$1 topics=$2 events=$3

cat <<TOP
# Events for $users users in $topics topics: a subscription for each user, which selects its events
# by an attribute. Written by capabilities.sh $users $topics $events.
specversion = "0.2"

[[capability]]
name = "pubsub.memory"

[[capability.config]]
publish = ["rooms/#"]

[[component]]
name = "routing"
path = "../target/wasm32-wasip2/release/routing.wasm"
args = ["$users", "$topics", "$events"]
TOP

user=0
while [ "$user" -lt "$users" ]; do
    cat <<USER

[[capability.config]]
subscription = "u$user"
topic = "rooms/+"
filter = 'attributes.user = "u$user"'
delivery = "pull"
publish = []
USER
    user=$((user + 1))
done
