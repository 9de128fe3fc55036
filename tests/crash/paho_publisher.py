"""A real client of the gateway's own broker: paho-mqtt, persistent session, QoS 1.

Publishes yard records until standard input ends, then waits until every one of them is confirmed. Prints `O SEQ` before
a record is offered and `C SEQ` once its PUBACK arrived, one line each, so that the oracle can compare.
Usage: paho_publisher.py PORT CLIENT_ID SERIAL RATE
"""
import json
import sys
import threading
import time

import paho.mqtt.client as mqtt

port, client_id, serial, rate = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
lock = threading.Lock()
waiting = {}
early = set()
stop = threading.Event()


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def on_publish(_client, _userdata, mid):
    with lock:
        seq = waiting.pop(mid, None)
        if seq is None:
            early.add(mid)
        else:
            say(f"C {serial}-{seq:010d}")


client = mqtt.Client(client_id=client_id, clean_session=False, protocol=mqtt.MQTTv311)
client.max_inflight_messages_set(100)
client.max_queued_messages_set(0)
client.reconnect_delay_set(min_delay=1, max_delay=1)
client.on_publish = on_publish
while True:
    try:
        client.connect("127.0.0.1", port, keepalive=20)
        break
    except OSError:
        time.sleep(0.1)
client.loop_start()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
seq = 0
while not stop.wait(1.0 / rate):
    with lock:
        backlog = len(waiting)
    if backlog > 2000:
        continue
    seq += 1
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    payload = json.dumps({"event_id": f"{serial}-{seq:010d}", "sn": serial, "pin": f"{seq % 5000:06d}", "ts": stamp,
                          "dir": "in" if seq % 2 else "out", "verify": "card", "site": "SITE-0001", "door": 11,
                          "card": f"{seq % 5000:010d}", "seq": seq})
    say(f"O {serial}-{seq:010d}")
    info = client.publish(f"site/yard/{serial}/events", payload, qos=1)
    with lock:
        if info.mid in early:
            early.discard(info.mid)
            say(f"C {serial}-{seq:010d}")
        else:
            waiting[info.mid] = seq
deadline = time.time() + 120
while time.time() < deadline:
    with lock:
        if not waiting:
            sys.exit(0)
    time.sleep(0.05)
sys.exit(f"{len(waiting)} records were never confirmed")
