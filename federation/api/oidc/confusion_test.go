package oidc_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/isthmus-mesh/isthmus/federation/api/oidc"
)

// Every known way to make one party take a token for what it is not (RFC 8725).
func TestConfusion(t *testing.T) {
	rsaKey, ec, ed := rsaPair(t, "r", 2048), ecPair(t, "e"), edPair(t, "d")
	attacker, weak := ecPair(t, "e"), rsaPair(t, "weak", 1024)
	encryption := ecPair(t, "enc")
	encryption.public.Use = "enc"
	pinned := rsaPair(t, "pinned", 2048)
	pinned.public.Algorithm = "PS256"
	twinA, twinB := ecPair(t, "twin"), ecPair(t, "twin")
	s := newIssuer(t, rsaKey.public, ec.public, ed.public, weak.public, encryption.public, pinned.public, twinA.public, twinB.public)
	v, _ := newVerifier(t, s)

	var called atomic.Int32
	lure := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		called.Add(1)
		writeJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{attacker.public}})
	}))
	t.Cleanup(lure.Close)

	good := claims(s, nil)
	body, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	payload := string(body)
	der, err := x509.MarshalPKIXPublicKey(rsaKey.public.Key)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	jwk, err := attacker.public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var embedded any
	if err := json.Unmarshal(jwk, &embedded); err != nil {
		t.Fatal(err)
	}
	ecKey := ec.private.(*ecdsa.PrivateKey)
	whole := sign(t, ec.private, jose.ES256, "e", nil, good)
	parts := strings.Split(whole, ".")
	es256 := func(header, payload string) string { return signES256(t, ecKey, header, payload) }

	if got := reasonOf(t, v, es256(`{"alg":"ES256","kid":"e"}`, payload)); got != "" {
		t.Fatalf("a good token signed by hand is refused: %s", got)
	}
	for name, c := range map[string]struct {
		token string
		want  oidc.Reason
	}{
		// alg
		"alg none":                      {raw64(`{"alg":"none"}`) + "." + raw64(payload) + ".", oidc.BadAlgorithm},
		"alg None":                      {raw64(`{"alg":"None"}`) + "." + raw64(payload) + ".", oidc.BadAlgorithm},
		"alg NONE with a signature":     {raw64(`{"alg":"NONE","kid":"e"}`) + "." + raw64(payload) + "." + parts[2], oidc.BadAlgorithm},
		"alg empty":                     {es256(`{"alg":"","kid":"e"}`, payload), oidc.BadAlgorithm},
		"alg missing":                   {es256(`{"kid":"e"}`, payload), oidc.BadAlgorithm},
		"alg a list":                    {es256(`{"alg":["ES256"],"kid":"e"}`, payload), oidc.BadAlgorithm},
		"alg in lower case":             {es256(`{"alg":"es256","kid":"e"}`, payload), oidc.BadAlgorithm},
		"alg HS256 by the public key":   {sign(t, publicPEM, jose.HS256, "r", nil, good), oidc.BadAlgorithm},
		"alg HS256 by the DER":          {sign(t, der, jose.HS256, "r", nil, good), oidc.BadAlgorithm},
		"alg HS512 by a guess":          {sign(t, []byte(strings.Repeat("secret", 12)), jose.HS512, "r", nil, good), oidc.BadAlgorithm},
		"alg asymmetric, not asked for": {sign(t, rsaKey.private, jose.RS512, "r", nil, good), oidc.BadAlgorithm},
		"alg twice":                     {es256(`{"alg":"none","alg":"ES256","kid":"e"}`, payload), oidc.Malformed},
		// kid
		"kid unknown":             {sign(t, ec.private, jose.ES256, "nobody", nil, good), oidc.UnknownKey},
		"kid a path":              {sign(t, ec.private, jose.ES256, "../../dev/null", nil, good), oidc.UnknownKey},
		"kid with SQL":            {sign(t, ec.private, jose.ES256, "e' OR '1'='1", nil, good), oidc.UnknownKey},
		"kid a URL":               {sign(t, attacker.private, jose.ES256, lure.URL, nil, good), oidc.UnknownKey},
		"kid empty":               {es256(`{"alg":"ES256","kid":""}`, payload), oidc.Malformed},
		"kid a number":            {es256(`{"alg":"ES256","kid":1}`, payload), oidc.Malformed},
		"kid too long":            {es256(`{"alg":"ES256","kid":"`+strings.Repeat("e", 300)+`"}`, payload), oidc.Malformed},
		"kid twice":               {es256(`{"alg":"ES256","kid":"x","kid":"e"}`, payload), oidc.Malformed},
		"kid missing, keys many":  {es256(`{"alg":"ES256"}`, payload), oidc.UnknownKey},
		"kid of two keys":         {sign(t, twinA.private, jose.ES256, "twin", nil, good), oidc.UnknownKey},
		"kid of another's key":    {sign(t, attacker.private, jose.ES256, "e", nil, good), oidc.BadSignature},
		"kid of another kind":     {sign(t, ec.private, jose.ES256, "r", nil, good), oidc.UnknownKey},
		"RSA alg with an EC key":  {sign(t, rsaKey.private, jose.RS256, "e", nil, good), oidc.UnknownKey},
		"EdDSA with an EC key":    {sign(t, ed.private, jose.EdDSA, "e", nil, good), oidc.UnknownKey},
		"key is for encryption":   {sign(t, encryption.private, jose.ES256, "enc", nil, good), oidc.UnknownKey},
		"key is of another alg":   {sign(t, pinned.private, jose.RS256, "pinned", nil, good), oidc.UnknownKey},
		"key is of too few bits":  {sign(t, weak.private, jose.RS256, "weak", nil, good), oidc.UnknownKey},
		"key of the pinned alg":   {sign(t, pinned.private, jose.PS256, "pinned", nil, good), ""},
		"signature of other text": {parts[0] + "." + raw64(strings.Replace(payload, "alice", "admin", 1)) + "." + parts[2], oidc.BadSignature},
		"signature empty":         {parts[0] + "." + parts[1] + ".", oidc.BadSignature},
		"signature all zero":      {parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), oidc.BadSignature},
		"signature in ASN.1 size": {parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 70)), oidc.BadSignature},
		// keys and addresses that the token brings along
		"jwk is not looked at":           {sign(t, attacker.private, jose.ES256, "e", map[string]any{"jwk": embedded}, good), oidc.BadSignature},
		"jwk without kid":                {sign(t, attacker.private, jose.ES256, "", map[string]any{"jwk": embedded}, good), oidc.UnknownKey},
		"jku is not looked at":           {sign(t, attacker.private, jose.ES256, "e", map[string]any{"jku": lure.URL}, good), oidc.BadSignature},
		"x5u is not looked at":           {sign(t, attacker.private, jose.ES256, "e", map[string]any{"x5u": lure.URL}, good), oidc.BadSignature},
		"jku of a good token is ignored": {sign(t, ec.private, jose.ES256, "e", map[string]any{"jku": lure.URL}, good), ""},
		// header
		"typ of an access token":      {es256(`{"alg":"ES256","kid":"e","typ":"at+jwt"}`, payload), ""},
		"typ with its prefix":         {es256(`{"alg":"ES256","kid":"e","typ":"application/at+jwt"}`, payload), ""},
		"typ missing":                 {es256(`{"alg":"ES256","kid":"e"}`, payload), ""},
		"typ of a logout token":       {es256(`{"alg":"ES256","kid":"e","typ":"logout+jwt"}`, payload), oidc.BadType},
		"typ of a security event":     {es256(`{"alg":"ES256","kid":"e","typ":"secevent+jwt"}`, payload), oidc.BadType},
		"typ of a proof of a key":     {es256(`{"alg":"ES256","kid":"e","typ":"dpop+jwt"}`, payload), oidc.BadType},
		"typ a number":                {es256(`{"alg":"ES256","kid":"e","typ":1}`, payload), oidc.BadType},
		"cty of a nested token":       {es256(`{"alg":"ES256","kid":"e","cty":"JWT"}`, payload), oidc.BadType},
		"a token in a token":          {es256(`{"alg":"ES256","kid":"e"}`, whole), oidc.Malformed},
		"crit with an extension":      {es256(`{"alg":"ES256","kid":"e","crit":["x"],"x":1}`, payload), oidc.Critical},
		"crit with b64":               {es256(`{"alg":"ES256","kid":"e","crit":["b64"],"b64":false}`, payload), oidc.Critical},
		"b64 without crit":            {es256(`{"alg":"ES256","kid":"e","b64":false}`, payload), oidc.Critical},
		"header no object":            {es256(`["ES256"]`, payload), oidc.Malformed},
		"header with more behind":     {es256(`{"alg":"ES256","kid":"e"}{}`, payload), oidc.Malformed},
		"header not UTF-8":            {es256("{\"alg\":\"ES256\",\"kid\":\"e\xff\"}", payload), oidc.Malformed},
		"header empty":                {"." + parts[1] + "." + parts[2], oidc.Malformed},
		"header with an escaped name": {es256(`{"alg":"ES256","kid":"e","\u006bid":"r"}`, payload), oidc.Malformed},
		// payload
		"claims twice":           {es256(`{"alg":"ES256","kid":"e"}`, strings.Replace(payload, `{`, `{"sub":"root",`, 1)), oidc.Malformed},
		"claims twice, escaped":  {es256(`{"alg":"ES256","kid":"e"}`, strings.Replace(payload, `{`, `{"\u0073ub":"root",`, 1)), oidc.Malformed},
		"claims twice, nested":   {es256(`{"alg":"ES256","kid":"e"}`, strings.Replace(payload, `{`, `{"x":{"a":1,"a":2},`, 1)), oidc.Malformed},
		"payload no object":      {es256(`{"alg":"ES256","kid":"e"}`, `"`+payload[1:4]+`"`), oidc.Malformed},
		"payload with more":      {es256(`{"alg":"ES256","kid":"e"}`, payload+payload), oidc.Malformed},
		"payload empty":          {es256(`{"alg":"ES256","kid":"e"}`, ""), oidc.Malformed},
		"payload not UTF-8":      {es256(`{"alg":"ES256","kid":"e"}`, strings.Replace(payload, "alice", "al\xffce", 1)), oidc.Malformed},
		"claims null":            {es256(`{"alg":"ES256","kid":"e"}`, `null`), oidc.Malformed},
		"subject null":           {es256(`{"alg":"ES256","kid":"e"}`, strings.Replace(payload, `"alice"`, "null", 1)), oidc.BadClaims},
		"audience null":          {es256(`{"alg":"ES256","kid":"e"}`, strings.Replace(payload, `"isthmus"`, "null", 1)), oidc.WrongAudience},
		"audience a list, nulls": {es256(`{"alg":"ES256","kid":"e"}`, strings.Replace(payload, `"isthmus"`, `[null,"isthmus"]`, 1)), oidc.WrongAudience},
		// form
		"empty":                  {"", oidc.Malformed},
		"one part":               {"abc", oidc.Malformed},
		"two parts":              {parts[0] + "." + parts[1], oidc.Malformed},
		"five parts, encrypted":  {strings.Repeat(raw64("{}")+".", 4) + raw64("x"), oidc.Malformed},
		"JSON serialization":     {`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, oidc.Malformed},
		"padded base64":          {parts[0] + "=." + parts[1] + "." + parts[2], oidc.Malformed},
		"loose bits in base64":   {parts[0] + "." + parts[1] + "." + loosen(parts[2]), oidc.Malformed},
		"standard base64":        {parts[0] + "." + parts[1] + "." + strings.Repeat("+/", 43), oidc.Malformed},
		"a line end inside":      {parts[0] + "\n." + parts[1] + "." + parts[2], oidc.Malformed},
		"a space before":         {" " + whole, oidc.Malformed},
		"oversize":               {parts[0] + "." + strings.Repeat("A", oidc.MaxToken) + "." + parts[2], oidc.TooLarge},
		"oversize by one":        {strings.Repeat("A", oidc.MaxToken+1), oidc.TooLarge},
		"oversize by many dots":  {strings.Repeat(".", oidc.MaxToken), oidc.Malformed},
		"a certificate's PEM":    {string(publicPEM), oidc.Malformed},
		"a header with no names": {es256(`{}`, payload), oidc.BadAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reasonOf(t, v, c.token); got != c.want {
				t.Errorf("refused as %q, want %q", got, c.want)
			}
		})
	}
	if n := called.Load(); n != 0 {
		t.Errorf("an address out of a token was asked %d times", n)
	}
	// However many kids were unknown, the issuer was asked once at the start, and
	// once more at most: the clock stands still.
	if n := s.fetched.Load(); n > 2 {
		t.Errorf("unknown keys made the issuer be asked %d times", n)
	}
}

// loosen sets the bits of the last character that base64 does not use.
func loosen(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[i|1])
}
