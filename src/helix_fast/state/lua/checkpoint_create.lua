-- Make a checkpoint: scalars, custom state and sub-agents are copied, of the conversation only its length is kept.
--
-- KEYS[1-9], ARGV[1-3]  those of state_prelude
-- ARGV[4-7]             session, nonce, metadata, keep: those of checkpoint_making
--
-- Reply: {'ok', ..., header}
-- include state_prelude
-- include checkpoint_dropping
-- include checkpoint_making

if not version then return {'missing'} end
local parts, refusal = checkpoint_parts()
if not parts then return refusal end
return finish(says('ok', make_checkpoint(parts, nil)))
