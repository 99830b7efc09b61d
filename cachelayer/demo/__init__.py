"""The main job, played with no account: real prompts through the real SDKs, a simulator, the report and the proof."""
