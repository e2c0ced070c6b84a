"""Moving jobs off bad hardware: a pure policy, a persisted engine, one adapter per scheduler."""
