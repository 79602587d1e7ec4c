"""`python -m tests.reliability.server`: a chat server that gives one answer to everything; prints its address."""

from __future__ import annotations

from tests.support.chat_server import ChatServer, by_reply

if __name__ == "__main__":
    server = ChatServer(by_reply(lambda request: "<think>Seen.</think>\n<answer>A</answer>"))
    print(server.url, flush=True)
    server.serve_forever()
