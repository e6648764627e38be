-- A host in which trust was ended stays on record, and says why.
ALTER TABLE host ADD COLUMN revoked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE host ADD COLUMN reason TEXT NOT NULL DEFAULT '';
