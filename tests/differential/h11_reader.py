"""Reads requests, each behind its length in a line, and prints what h11 sees in each: one line of JSON."""

import json
import sys

import h11


def read(message):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(message)
    connection.receive_data(b"")
    seen, body = None, b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            fields = [part.decode("latin-1") for name, value in event.headers for part in (name, value)]
            method, target = event.method.decode("latin-1"), event.target.decode("latin-1")
            seen = {"method": method, "target": target, "fields": fields}
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            rest = connection.trailing_data[0]
            return {"wrong": "bytes behind the request"} if rest else {**seen, "body": body.hex()}
        else:
            return {"wrong": f"h11 wants more: {event!r}"}


source = sys.stdin.buffer
while line := source.readline():
    try:
        answer = read(source.read(int(line)))
    except h11.RemoteProtocolError as error:
        answer = {"wrong": str(error)}
    print(json.dumps(answer))
