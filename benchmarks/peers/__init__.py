"""Other clients under the same load as ours: `model` says what a load is, `turns` runs `writes` and `relay`."""
