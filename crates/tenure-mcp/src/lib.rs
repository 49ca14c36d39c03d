//! Durable MCP tasks for servers written with the official SDK, `rmcp`.
