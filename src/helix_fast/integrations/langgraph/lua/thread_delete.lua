-- Delete everything of a thread.
--
-- KEYS[1-7], ARGV[1-2]  those of thread_prelude
--
-- Reply: 'ok'
-- What stays for its minute or two is what is known of calls: a repetition of this one deletes no successor, and one of a put
-- that came before it does not bring the thread back.
-- include thread_prelude

redis.call('UNLINK', checkpoints, order, blobs, writes)
return finish('ok')
