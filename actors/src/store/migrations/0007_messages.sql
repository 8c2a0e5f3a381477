-- What the channel calls the message itself: one that it tells of again in another event is still the same message.

ALTER TABLE ingress ADD COLUMN message TEXT;

CREATE UNIQUE INDEX ingress_message ON ingress (channel, account, message) WHERE message IS NOT NULL;
