-- Ties a host's endorsement key to its record: a wrapped secret that opens only
-- beside the key that was enrolled.
ALTER TABLE host ADD COLUMN ek_bond BLOB NOT NULL DEFAULT x'';
