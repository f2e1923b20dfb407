CREATE TABLE item_owners (
    item_id bigint NOT NULL REFERENCES items (id),
    user_id bigint NOT NULL REFERENCES users (id),
    PRIMARY KEY (item_id, user_id)
);

INSERT INTO item_owners (item_id, user_id)
SELECT id, created_by FROM items;
