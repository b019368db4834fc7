"""JSON out of FastAPI."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def index():
    return {"message": "Hello, World!", "numbers": list(range(10))}
