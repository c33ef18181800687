package trap_test

const archPrefix = "x64"
