package api

import (
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"
)

// CheckAnswer checks the JSON answer of an operation against the document.
func (s *Server) CheckAnswer(path string, answer []byte) ([]error, error) {
	var v any
	if err := json.Unmarshal(answer, &v); err != nil {
		return nil, err
	}
	schema := s.document.Paths[path].Get.Responses["200"].Content["application/json"].Schema
	res := new(huma.ValidateResult)
	huma.Validate(s.document.Components.Schemas, schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, res)
	return res.Errors, nil
}

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
