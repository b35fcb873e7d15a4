package api

// EncodeCursor and DecodeCursor are the form of cursors.
var (
	EncodeCursor = encodeCursor
	DecodeCursor = decodeCursor
)

// DecodeRule decodes a rule as a handler does.
func DecodeRule[R any](data []byte) (R, error) {
	b := ruleBody[R]{raw: data}
	return b.decode()
}

// FieldErrors are the locations of what is wrong.
func FieldErrors(err error) (locations []string) {
	for _, d := range fieldErrors(err, "body") {
		locations = append(locations, d.Location)
	}
	return locations
}
