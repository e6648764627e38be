-- How often the vTPM's state was written, as its host said last: less means an old copy.
ALTER TABLE vm ADD COLUMN writes INTEGER NOT NULL DEFAULT 0;
