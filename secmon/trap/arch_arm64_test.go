package trap_test

const archPrefix = "arm64"
