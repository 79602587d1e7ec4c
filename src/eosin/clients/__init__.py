"""One client for OpenAI-compatible servers, shared by all that ask one. The package `openai` is imported on use."""

from eosin.clients.chat import ChatClient, ChatRequest, Message
from eosin.clients.completion import Completion
from eosin.clients.settings import ServerSettings

__all__ = ["ChatClient", "ChatRequest", "Completion", "Message", "ServerSettings"]
