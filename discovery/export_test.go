package discovery

// DecodeSaved is what the fuzzer feeds.
var DecodeSaved = decodeSaved

// RestartDelay is checked for its bounds.
var RestartDelay = restartDelay
