package gateway

// ResetKey is what a gateway makes and keeps.
var ResetKey = resetKey
